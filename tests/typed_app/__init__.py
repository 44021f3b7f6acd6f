"""An application with typed jobs, found as those of any application are."""
