"""The proxies' configuration: rendered from the mesh file and the overlays in force."""
