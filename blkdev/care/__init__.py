"""Looking after a store: check, and what repairs, scrubs, shows and resizes one."""
