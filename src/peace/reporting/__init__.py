"""Result records, the tables that are derived from them, and figures beside the CSV of their points."""
