"""One thin file per page: read the tenant, ask a service, draw."""
