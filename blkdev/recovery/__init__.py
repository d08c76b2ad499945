"""From what a device holds to the state of a store: replay of the log, also past damage."""
