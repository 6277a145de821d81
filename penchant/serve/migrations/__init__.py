"""How the tables of the service came to be: one step a file, applied in order by Alembic."""
