"""A real JupyterLab in a real browser: what a person sees and clicks."""
