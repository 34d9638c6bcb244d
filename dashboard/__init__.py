"""Show the published marts in the dashboard: a frame and pages."""
