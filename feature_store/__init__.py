"""Facts about users and documents, by key, fresh or marked stale."""
