"""Tool calling as text: how models write calls, how they are read back, and how they are held to it."""
