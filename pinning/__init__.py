"""Keep a CID here."""
