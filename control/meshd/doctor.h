/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: "meshctl doctor" on one node. Loop: libuv; takes some seconds, done comes once unless it was cancelled. */
#ifndef CONTROL_MESHD_DOCTOR_H
#define CONTROL_MESHD_DOCTOR_H

#include "control/api/doctor.h"

struct meshd;
struct doctor;

/* r is borrowed; the struct doctor is gone after. */
typedef void (*doctor_done)(void *arg, const struct doctor_report *r);
/* args: "peer=ID ADDRESS DRIVER MANAGER" of every node, MANAGER "-" or its control address. */
struct doctor *doctor_run(struct meshd *m, const struct str_list *args, doctor_done done, void *arg);
void doctor_cancel(struct doctor *d);

#endif
