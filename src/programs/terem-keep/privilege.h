/* SPDX-License-Identifier: GPL-2.0-or-later */
/* privilege — what terem-keep gives up once it listens, for good. */
#pragma once

#include "base/err.h"

int privilege_drop(struct err *err);
