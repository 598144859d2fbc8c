"""Any finished work directories beside each other, in one table and one page.

`runs` reads them and says which differ in their seed alone, `compare` makes the figures, `show` the lines of the
console, `page` the page.
"""
