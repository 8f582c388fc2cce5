"""From words and YAML to objects: settings, the strict parser, composition, wiring, and building."""
