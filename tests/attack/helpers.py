# SPDX-License-Identifier: GPL-2.0-or-later
"""What the attack tests share."""


def arm(node, name, program):
    with open(program, "rb") as file:
        answer = node.api("PUT", f"/v1/ves/{name}/files?path=/attack&mode=0755", file.read())
    assert answer.status < 300, answer
