# Copyright 2026 The recon3r_ros authors
# SPDX-License-Identifier: Apache-2.0
"""Tables in Markdown."""

from recon3r_ros.io.markdown import row, table


def test_table():
    assert table(('a', 'b'), [('1', '2'), ('3', '4')]) == (
        '| a | b |\n| --- | --- |\n| 1 | 2 |\n| 3 | 4 |\n')
    assert table(('a',), []) == '| a |\n| --- |\n'


def test_what_is_in_a_cell_stays_there():
    assert row('f|g', 'h') == '| f\\|g | h |\n'


def test_a_missing_value_is_wider_than_an_empty_cell():
    assert row(None, 'a', '', None) == '| | a |  | |\n'
