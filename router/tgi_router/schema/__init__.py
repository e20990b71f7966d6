"""The JSON that the HTTP routes take and give, as types; one module per API family."""
