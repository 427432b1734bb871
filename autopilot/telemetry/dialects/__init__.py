"""How meshes name what they measure."""
