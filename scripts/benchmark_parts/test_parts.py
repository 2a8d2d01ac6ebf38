"""Tests of what computes and writes, and of the proxy's counting."""
import unittest
from xml.etree import ElementTree

from . import page, plot, text
from .proxy import PREFACE, Requests


class Texts(unittest.TestCase):
    def test_figures_have_the_digits_that_they_deserve(self):
        self.assertEqual([text.ms(each) for each in (0.1234, 0.01234, 0.0001234)], ["123 ms", "12.3 ms", "0.12 ms"])
        self.assertEqual([text.size(each) for each in (12, 3_700_000, 123_456_789, 4e9)], ["12 B", "3.7 MB", "123 MB", "4.0 GB"])
        self.assertEqual([text.count(each) for each in (5, 12.34, 1234.5, 0.0123)], ["5", "12.3", "1234", "0.012"])
        self.assertEqual([text.ratio(1, 7), text.ratio(7, 2), text.ratio(500, 1), text.ratio(1, None)], ["0.14", "3.5", "500", "-"])
        self.assertEqual((text.median([3, 1, 2]), text.median([])), (2, None))

    def test_a_table_has_a_row_for_what_is_absent_and_no_ragged_rows(self):
        made = text.table(["", "a", "b"], [["x|y", 1, 2]], ["etcd"])
        self.assertEqual(made, "|  | a | b |\n|---|---:|---:|\n| x\\|y | 1 | 2 |\n| etcd | not installed | - |")
        with self.assertRaises(ValueError):
            text.table(["", "a"], [["x"]])

    def test_who_comes_out_of_turn_is_counted(self):
        self.assertEqual([text.violations(order) for order in ([], [0, 1, 2], [1, 0, 2], [2, 1, 0])], [0, 0, 1, 2])


class Plots(unittest.TestCase):
    def test_a_plot_is_well_formed_and_each_point_is_inside(self):
        lines = [("a <lock>", [(3, 40.0), (300, 7.5)]), ("b", [(10, 0.5)]), ("nothing", [])]
        root = ElementTree.fromstring(plot.svg("T & U", "x", "y", lines))
        space = "{http://www.w3.org/2000/svg}"
        texts = {each.text for each in root.iter(f"{space}text")}
        self.assertLessEqual({"a <lock>", "b", "T & U", "x", "y"}, texts)
        self.assertNotIn("nothing", texts)
        paths = [each.get("points").split() for each in root.iter(f"{space}polyline")]
        self.assertEqual([len(path) for path in paths], [2, 1])
        for x, y in (map(float, point.split(",")) for path in paths for point in path):
            self.assertTrue(plot.LEFT <= x <= plot.WIDTH - plot.RIGHT and plot.TOP <= y <= plot.HEIGHT - plot.BOTTOM)

    def test_the_axes_take_in_all_values(self):
        for values in ([1], [3, 300], [0.7, 41], [10, 1000], [0.2, 0.2]):
            low, high = plot.bounds(values)
            self.assertTrue(low <= min(values) and max(values) <= high and low < high, values)


class Counting(unittest.TestCase):
    def count(self, stream):
        whole, pieces = Requests(), Requests()
        lines = whole.feed(stream)
        self.assertEqual([line for byte in stream for line in pieces.feed(bytes([byte]))], lines)
        return lines

    def test_requests_of_http_are_counted_however_they_are_cut(self):
        stream = b"PUT /a HTTP/1.1\r\nContent-Length: 11\r\n\r\nGET / \r\n\r\n.GET /b?index=1 HTTP/1.1\r\n\r\nGET /c HTTP/1.1\r\n\r\n"
        self.assertEqual(self.count(stream), ["PUT /a", "GET /b?index=1", "GET /c"])
        with self.assertRaises(ValueError):
            Requests().feed(b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")

    def test_messages_of_grpc_are_counted_and_other_frames_are_not(self):
        def frame(kind, payload):
            return len(payload).to_bytes(3, "big") + bytes([kind, 0, 0, 0, 0, 1]) + payload

        stream = PREFACE + frame(4, b"") + frame(1, b"head") + frame(0, b"message") + frame(0, b"") + frame(0, b"PRI * HTTP")
        self.assertEqual(self.count(stream), ["", ""])


class Pages(unittest.TestCase):
    def test_the_summary_says_what_was_reached_and_what_was_not(self):
        figures = {"free consul-lock run": 0.005, "free consul lock": 0.04, "free in blocks consul-lock run": 0.007,
                   "free in blocks consul lock": 0.04, "crowd 100 consul-lock run": 2.7,
                   "crowd 100 flock": 2.3, "fifo": (300, 0), "loss consul-lock run": 0.0015}
        rows = [row.split(" | ") for row in page.summary(figures).split("\n")[2:]]
        self.assertEqual([row[3] for row in rows], ["no", "yes", "no", "yes", "yes"])
        self.assertEqual([row[2] for row in rows[:2]], ["7.0 ms, 0.175", "5.0 ms, 0.125"])
        self.assertEqual(rows[2][4:], ["-", "-", "2.30 s |"])

    def test_the_page_has_every_part(self):
        made = page.page({}, "a machine", 14.2, [("One", "first\n"), ("Two", "second\n")])
        headings = [line for line in made.split("\n") if line.startswith("## ")]
        self.assertEqual(headings, ["## What was to be reached", "## One", "## Two", "## Method"])
        self.assertIn("(benchmarks.svg)", made)
