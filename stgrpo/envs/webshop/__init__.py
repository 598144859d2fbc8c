"""WebShop's text mode: the benchmark's pages, search and reward as pure functions, goals, an expert."""

from stgrpo.envs.webshop.environment import Webshop, make
from stgrpo.envs.webshop.shop.catalogue import Catalogue, load
from stgrpo.envs.webshop.shop.game import ShopProblem
from stgrpo.envs.webshop.shop.pages import Place

__all__ = ["Catalogue", "Place", "ShopProblem", "Webshop", "load", "make"]
