"""For people and programs outside: what runs here, shown and steered over HTTP."""
