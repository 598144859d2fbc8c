"""What can be said of success rates: differences with intervals, over seeds and layouts, and how many are needed.

Pure functions of plain values. `paired` has two policies on the same layouts, `crossed` several trainings on the same
layouts, `repeated` several plays of one layout, `planning` how many layouts a comparison needs.
"""
