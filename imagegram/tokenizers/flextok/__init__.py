"""FlexTok: ordered tokens of the published package and weights."""
