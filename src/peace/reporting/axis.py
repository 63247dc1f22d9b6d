"""What is measured along an axis of a figure."""

from peace.reporting.schema import Checked


class AxisSpec(Checked):
    """What is measured along an axis, a metric or count of records or a column of points, and its printed name."""

    name: str
    label: str
