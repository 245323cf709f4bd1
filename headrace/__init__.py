"""The top: settings, assembly (the only place that picks implementations), CLI."""
