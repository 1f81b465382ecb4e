/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "api/request.h"

#include "base/cleanup.h"

#include <string.h>

#define WAIT                                                                                   \
    {                                                                                          \
        "wait", QUERY_BOOL, false, "Answer when the job has ended: with the job or its error." \
    }
#define NDJSON "application/x-ndjson"

/* Every route there is.  The OpenAPI document is made from this table. */
const struct route route_table[] = {
    {"GET", "/v1", "getNode", on_node, NULL, "About this node", NULL, "Node", 200, 0},
    {"GET", "/v1/openapi.json", "getOpenApi", on_openapi, NULL, "This document", NULL, "OpenApi",
     200, 0},
    {"GET", "/v1/doctor", "getDoctor", on_doctor, NULL,
     "What the kernel offers, and what each missing thing costs", NULL, "Doctor", 200, 0},
    {"GET", "/metrics", "getMetrics", on_metrics, NULL, "Counters of the VEs, as OpenMetrics text",
     NULL, "application/openmetrics-text", 200, 0},
    {"GET", "/v1/params", "listParams", on_params, NULL, "The table of parameters", NULL,
     "ParamList", 200, 0},
    {"GET", "/v1/params/{key}", "getParam", on_param, NULL, "One parameter", NULL, "ParamRow", 200,
     0},
    {"GET", "/v1/profiles", "listProfiles", on_profiles, NULL, "Profiles by name", NULL,
     "ProfileList", 200, 0},
    {"POST", "/v1/profiles", "createProfile", on_profile_create, NULL, "Make a profile",
     "ProfileSpec", "Profile", 201, 0},
    {"GET", "/v1/profiles/{name}", "getProfile", on_profile, NULL, "One profile", NULL, "Profile",
     200, 0},
    {"PATCH", "/v1/profiles/{name}", "changeProfile", on_profile_change, NULL,
     "Change a profile's parameters, and those of all VEs that use it, in one transaction",
     "ProfileChanges", "Profile", 200, 0},
    {"DELETE", "/v1/profiles/{name}", "removeProfile", on_profile_remove, NULL,
     "Remove a profile that no VE uses", NULL, "Removed", 200, 0},
    {"GET",
     "/v1/ves",
     "listVes",
     on_ves,
     NULL,
     "VEs by name",
     NULL,
     "VeList",
     200,
     0,
     {{"label", QUERY_TEXT, false, "Only those with this label, k=v."}}},
    {"POST",
     "/v1/ves",
     "createVe",
     on_ve_create,
     NULL,
     "Make a VE; with \"start\" also begin to start it, which answers with the job",
     "VeSpec",
     "Ve",
     201,
     ROUTE_JOB,
     {WAIT}},
    {"GET", "/v1/ves/{name}", "getVe", on_ve, NULL, "One VE", NULL, "Ve", 200, 0},
    {"GET", "/v1/ves/{name}/counters", "getCounters", on_ve_counters, NULL,
     "What it holds, held at most and was refused of each limited parameter", NULL, "Counters", 200,
     0},
    {"PATCH", "/v1/ves/{name}", "changeVe", on_ve_change, NULL,
     "Change parameters, labels, autostart, restart or the name in one transaction", "VeChanges",
     "Ve", 200, 0},
    {"DELETE",
     "/v1/ves/{name}",
     "destroyVe",
     on_ve_destroy,
     "destroy",
     "Destroy a VE",
     NULL,
     "Job",
     202,
     ROUTE_JOB,
     {WAIT, {"force", QUERY_BOOL, false, "Also when it runs."}}},
    {"POST",
     "/v1/ves/{name}/start",
     "startVe",
     on_ve_action,
     "start",
     "Start",
     "NoOptions",
     "Job",
     202,
     ROUTE_JOB,
     {WAIT}},
    {"POST",
     "/v1/ves/{name}/stop",
     "stopVe",
     on_ve_action,
     "stop",
     "Stop",
     "StopOptions",
     "Job",
     202,
     ROUTE_JOB,
     {WAIT}},
    {"POST",
     "/v1/ves/{name}/restart",
     "restartVe",
     on_ve_action,
     "restart",
     "Stop and start",
     "StopOptions",
     "Job",
     202,
     ROUTE_JOB,
     {WAIT}},
    {"POST",
     "/v1/ves/{name}/kill",
     "killVe",
     on_ve_action,
     "kill",
     "End every process at once",
     "NoOptions",
     "Job",
     202,
     ROUTE_JOB,
     {WAIT}},
    {"POST",
     "/v1/ves/{name}/pause",
     "pauseVe",
     on_ve_action,
     "pause",
     "Freeze",
     "NoOptions",
     "Job",
     202,
     ROUTE_JOB,
     {WAIT}},
    {"POST",
     "/v1/ves/{name}/resume",
     "resumeVe",
     on_ve_action,
     "resume",
     "Thaw",
     "NoOptions",
     "Job",
     202,
     ROUTE_JOB,
     {WAIT}},
    {"POST", "/v1/ves/{name}/exec", "execInVe", on_exec, NULL,
     "Run a command: collected, or as frames after an upgrade to terem-stream/1", "ExecRequest",
     "ExecResult", 200, ROUTE_UPGRADE},
    {"GET", "/v1/ves/{name}/console", "openConsole", on_console, NULL,
     "Join the console, as frames after an upgrade to terem-stream/1", NULL, "text/plain", 101,
     ROUTE_UPGRADE},
    {"GET",
     "/v1/ves/{name}/logs",
     "getLogs",
     on_logs,
     NULL,
     "What the console showed",
     NULL,
     "text/plain",
     200,
     0,
     {{"lines", QUERY_COUNT, false, "The last so many; 100 when not given."}}},
    {"PUT",
     "/v1/ves/{name}/files",
     "putFile",
     on_file_put,
     NULL,
     "Write a file; Content-Type: application/x-tar unpacks below path",
     "application/octet-stream",
     "FileWritten",
     200,
     ROUTE_UPLOAD | ROUTE_WAIT,
     {{"path", QUERY_TEXT, true, "As the VE's root sees it."},
      {"mode", QUERY_TEXT, false, "Octal; 0644 when not given."},
      {"uid", QUERY_COUNT, false, "Owner inside the VE; 0 when not given."},
      {"gid", QUERY_COUNT, false, "Group inside the VE; 0 when not given."},
      {"name", QUERY_TEXT, false, "The file's name when path is a directory."}}},
    {"GET",
     "/v1/ves/{name}/files",
     "getFile",
     on_file_get,
     NULL,
     "A file's bytes; a directory comes as application/x-tar",
     NULL,
     "application/octet-stream",
     200,
     ROUTE_WAIT,
     {{"path", QUERY_TEXT, true, "As the VE's root sees it."}}},
    {"GET", "/v1/templates", "listTemplates", on_templates, NULL, "Templates by name", NULL,
     "TemplateList", 200, 0},
    {"POST",
     "/v1/templates",
     "makeTemplate",
     on_template_make,
     NULL,
     "Build or import a template",
     "TemplateSpec",
     "Job",
     202,
     ROUTE_JOB,
     {WAIT}},
    {"GET", "/v1/templates/{name}", "getTemplate", on_template, NULL, "One template", NULL,
     "Template", 200, 0},
    {"DELETE",
     "/v1/templates/{name}",
     "removeTemplate",
     on_template_remove,
     NULL,
     "Remove a template and the layers that nobody else stands on",
     NULL,
     "Job",
     202,
     ROUTE_JOB,
     {WAIT}},
    {"GET",
     "/v1/jobs",
     "listJobs",
     on_jobs,
     NULL,
     "Open jobs, the newest first",
     NULL,
     "JobList",
     200,
     0,
     {{"all", QUERY_BOOL, false, "Also those that have ended."},
      {"limit", QUERY_COUNT, false, "At most so many."}}},
    {"GET",
     "/v1/jobs/{id}",
     "getJob",
     on_job,
     NULL,
     "One job",
     NULL,
     "Job",
     200,
     ROUTE_JOB,
     {{"wait", QUERY_BOOL, false, "Answer when it has ended."}}},
    {"DELETE",
     "/v1/jobs/{id}",
     "cancelJob",
     on_job_cancel,
     NULL,
     "Ask a job to stop",
     NULL,
     "Job",
     202,
     ROUTE_JOB,
     {{"wait", QUERY_BOOL, false, "Answer when it has ended."}}},
    {"GET", "/v1/events", "streamEvents", on_events, NULL,
     "Events as they happen, one JSON object a line; Accept: text/event-stream for server-sent "
     "events",
     NULL, NDJSON, 200, ROUTE_WAIT},
    {"POST", "/v1/node/stop", "stopNode", on_node_stop, NULL,
     "Stop every VE, then teremd, and leave nothing running", "NodeStop", "NodeStopped", 200, 0},
};
const size_t route_table_size = ARRAY_SIZE(route_table);

/* Does the path fit the pattern?  *ret_name: what stands for {…}. */
static bool fits(const char *pattern, const struct url *url, const char **ret_name)
{
    const char *name = NULL, *p = pattern;
    for (size_t i = 0; i < url->n_segments; i++) {
        if (*p++ != '/')
            return false;
        size_t n = strcspn(p, "/");
        if (*p == '{')
            name = url->segments[i];
        else if (strlen(url->segments[i]) != n || strncmp(p, url->segments[i], n) != 0)
            return false;
        p += n;
    }
    if (*p || (name && !*name))
        return false;
    *ret_name = name;
    return true;
}

const struct route *route_find(const char *method, const struct url *url, const char **ret_name,
                               unsigned *ret_status, struct str *allow)
{
    /* HEAD is GET without the body; libmicrohttpd leaves the body out. */
    const char *wanted = strcmp(method, "HEAD") == 0 ? "GET" : method;
    *ret_status = MHD_HTTP_NOT_FOUND;
    for (size_t i = 0; i < route_table_size; i++) {
        const struct route *route = &route_table[i];
        const char *name;
        if (!fits(route->pattern, url, &name))
            continue;
        if (strcmp(route->method, wanted) == 0) {
            *ret_name = name;
            *ret_status = 0;
            return route;
        }
        *ret_status = MHD_HTTP_METHOD_NOT_ALLOWED;
        str_add(allow, "%s%s%s", allow->len ? ", " : "", route->method,
                strcmp(route->method, "GET") == 0 ? ", HEAD" : "");
    }
    return NULL;
}
