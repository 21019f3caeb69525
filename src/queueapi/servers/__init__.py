"""The server processes on one database: who they are, who lives, and how they ask each other."""
