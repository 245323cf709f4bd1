"""Models as they are served: started on demand, shared by many callers, behind endpoints."""
