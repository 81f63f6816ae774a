"""The shared database: schema, migrations, connections."""
