"""What a Grafana dashboard asks of Prometheus: its panels' own queries, with the dashboard's variables filled in."""

import re


def queries(dashboard, rate_interval):
    """Every (panel, expression, legend) of a dashboard's JSON; for its variables, everything there is."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"].replace("$__rate_interval", rate_interval)
            yield panel, re.sub(r"\$(job|namespace|instance)\b", ".*", expression), target.get("legendFormat", "")
