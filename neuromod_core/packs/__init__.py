"""Packs: parsed once at the border, then frozen values; and binding packs to the rows of a batch."""

from neuromod_core.packs.binding import Binding, bind
from neuromod_core.packs.pack import Dosed, Pack, leaves_the_pass
from neuromod_core.packs.parsing import load_pack, load_packs, parse_pack, schema

__all__ = ["Binding", "Dosed", "Pack", "bind", "leaves_the_pass", "load_pack", "load_packs", "parse_pack", "schema"]
