/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: the commands at the top, in the order help shows them; each lives in the file of its noun. */
#ifndef MESH_CLI_COMMANDS_H
#define MESH_CLI_COMMANDS_H

#include "cli/command.h"

extern const struct command cmd_lab, cmd_service, cmd_node, cmd_swarm, cmd_network, cmd_secret, cmd_config,
	cmd_container, cmd_image, cmd_stack, cmd_system, cmd_volume;
extern const struct command cmd_completion, cmd_doctor, cmd_drops, cmd_events, cmd_exec, cmd_images, cmd_info,
	cmd_inspect, cmd_kill, cmd_load, cmd_logs, cmd_ps, cmd_pull, cmd_restart, cmd_rm, cmd_rmi, cmd_run, cmd_stats,
	cmd_stop, cmd_tag, cmd_top, cmd_trace, cmd_version, cmd_wait;

#define CLI_COMMANDS                                                                                                   \
	&cmd_config, &cmd_container, &cmd_image, &cmd_lab, &cmd_network, &cmd_node, &cmd_secret, &cmd_service,         \
		&cmd_stack, &cmd_swarm, &cmd_system, &cmd_volume, &cmd_completion, &cmd_doctor, &cmd_drops,            \
		&cmd_events, &cmd_exec, &cmd_images, &cmd_info, &cmd_inspect, &cmd_kill, &cmd_load, &cmd_logs,         \
		&cmd_ps, &cmd_pull, &cmd_restart, &cmd_rm, &cmd_rmi, &cmd_run, &cmd_stats, &cmd_stop, &cmd_tag,        \
		&cmd_top, &cmd_trace, &cmd_version, &cmd_wait

#endif
