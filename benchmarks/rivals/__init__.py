"""Other stores behind one interface, so that the same workload runs on all of them."""
