"""How families of models are shown tools, and how their answers are read. Pure: no I/O."""

from agentcall.dialects.reading import Reading, TextReader, families, read_text, text_reader

__all__ = ["Reading", "TextReader", "families", "read_text", "text_reader"]
