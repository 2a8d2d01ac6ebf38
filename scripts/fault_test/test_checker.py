"""The checker on histories made by hand. Run by `scripts/fault-test --self-test`."""
import json
import unittest

from . import checker, worker

MS = 1_000_000


def beats(run, begin, end, fence="-", step=10, done=False):
    """Lines of a run that beats from `begin` to `end` (ms)."""
    lines = [f"B {when * MS} {run} {fence} 1" for when in range(begin, end, step)]
    return [*lines, f"E {end * MS} {run} {fence} 1"] if done else lines


def history(*runs):
    return checker.read([line for run in runs for line in run], [])


class Overlaps(unittest.TestCase):
    def test_runs_one_after_the_other_do_not_overlap(self):
        runs = history(beats("a", 0, 1000), beats("b", 1000, 2000), beats("c", 2500, 3000))
        self.assertEqual(checker.overlaps(runs), [])

    def test_interleaved_beats_overlap_for_as_long_as_both_beat(self):
        found = checker.overlaps(history(beats("a", 0, 1000), beats("b", 700, 2000)))
        self.assertEqual([(o.first.run, o.second.run, o.begun) for o in found], [("a", "b", 700 * MS)])
        self.assertAlmostEqual(found[0].seconds, 0.3, delta=0.011)

    def test_a_single_beat_too_late_is_an_overlap(self):
        found = checker.overlaps(history(beats("a", 0, 1000) + ["B 1500000000 a - 1"], beats("b", 1200, 2000)))
        self.assertEqual(len(found), 1)
        self.assertAlmostEqual(found[0].seconds, 0.01, delta=0.001)

    def test_a_stopped_run_that_beats_once_more_after_the_other_had_ended_overlaps_without_common_time(self):
        found = checker.overlaps(history(beats("a", 0, 1000) + beats("a", 5000, 5100), beats("b", 2000, 3000)))
        self.assertEqual([o.seconds for o in found], [0])

    def test_one_long_run_overlaps_with_all_that_come_meanwhile(self):
        runs = history(beats("long", 0, 9000), beats("b", 1000, 2000), beats("c", 3000, 4000), beats("d", 9500, 9600))
        self.assertEqual([o.second.run for o in checker.overlaps(runs)], ["b", "c"])

    def test_the_order_of_the_lines_does_not_matter(self):
        lines = beats("b", 700, 2000) + beats("a", 0, 1000)
        self.assertEqual(len(checker.overlaps(checker.read(lines[::-1], []))), 1)

    def test_a_torn_line_is_refused_and_not_skipped(self):
        with self.assertRaises(ValueError):
            checker.read(["B 12"], [])


class Fences(unittest.TestCase):
    def order(self, *fences):
        runs = history(*(beats(f"r{n}", n * 100, n * 100 + 50, fence) for n, fence in enumerate(fences)))
        return [after.run for _, after in checker.misordered(runs)]

    def test_growing_fences_are_well(self):
        self.assertEqual(self.order("3", "9", "10", "100"), [])

    def test_an_equal_or_smaller_fence_is_found(self):
        self.assertEqual(self.order("3", "3", "9", "8", "10"), ["r1", "r3"])

    def test_a_missing_fence_is_found(self):
        self.assertEqual(self.order("3", "-", "9"), ["r1"])

    def test_fences_are_compared_with_the_greatest_seen(self):
        self.assertEqual(self.order("9", "5", "7", "10"), ["r1", "r2"])


class Kills(unittest.TestCase):
    def test_a_run_that_came_to_its_end_was_not_killed(self):
        runs = history(beats("a", 0, 1000, done=True), beats("b", 1000, 2000))
        self.assertEqual([run.run for run in checker.killed(runs)], ["b"])

    def test_a_kill_inside_a_harmless_window_is_needless_unless_the_nemesis_did_it(self):
        runs = history(beats("a", 0, 1000), beats("b", 1100, 2000), beats("c", 2100, 3000))
        windows = [(900 * MS, 2050 * MS)]
        self.assertEqual([run.run for run in checker.needless(runs, windows, {"b"})], ["a"])
        self.assertEqual(checker.needless(runs, [(5000 * MS, 6000 * MS)]), [])

    def test_the_closest_call_is_counted_from_a_killed_run_only(self):
        first = beats("a", 0, 1000, done=True)
        runs = history(first, beats("b", 1001, 2000), beats("c", 3000, 3500), beats("d", 9000, 9100))
        self.assertAlmostEqual(checker.closest(runs), 1.009)
        self.assertAlmostEqual(checker.closest(runs, {"b"}), 5.51)
        self.assertIsNone(checker.closest(runs[:1]))


class Records(unittest.TestCase):
    def test_what_the_worker_wrote_belongs_to_the_beats_of_its_run(self):
        record = {"run": "a", "tool": "t", "host": "h", "shape": "s", "begun": 1, "ended": 2, "code": 76}
        runs = checker.read(beats("a", 0, 100, "7"), [json.dumps(record), json.dumps({**record, "run": "idle"})])
        self.assertEqual([(run.run, run.code, run.fence) for run in runs], [("a", 76, "7"), ("idle", 76, "-")])

    def test_the_last_beat_is_the_last_that_is_whole(self):
        one, two = beats("a", 0, 20)
        self.assertEqual(worker.last_line(f"000 a - 1\n{one}\n{two}\n"), two)
        for part in ("", "B", two[:4], two[:-2], two):
            self.assertEqual(worker.last_line(f"000 a - 1\n{one}\n{part}"), one)
        self.assertIsNone(worker.last_line(""))


if __name__ == "__main__":
    unittest.main()
