"""One module per verb: options in, a call on the node, a printed answer out."""
