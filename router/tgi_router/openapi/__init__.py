"""What the routes take and answer, as an OpenAPI 3.1 document made of the types that they really use."""
