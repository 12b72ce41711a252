"""The Streamlit shell around the services: start, sign-in, navigation, widgets, and the `param` command."""
