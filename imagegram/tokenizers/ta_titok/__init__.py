"""TiTok whose decoder also reads the caption of an image."""
