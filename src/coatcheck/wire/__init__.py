"""One HTTP exchange with bounded bodies, over libcurl: asyncio and blocking."""
