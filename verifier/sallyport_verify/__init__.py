"""Second, independent verifier of Sallyport's audit trail, written from docs/audit-format.md alone."""
