"""The network and its losses. Knows neither files nor processes nor `stdc.data`."""
