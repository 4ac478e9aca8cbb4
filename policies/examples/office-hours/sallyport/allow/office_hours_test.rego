package sallyport.allow_test

import data.sallyport.decision

payroll_stream := {
	"v": 1,
	"action": "stream",
	"namespace": "relay.example.com",
	"connection": {"name": "payroll", "id": "c_1", "labels": {}},
	"target": {"host": "payroll.corp.example", "port": 8443, "address": "10.30.0.4", "addresses": ["10.30.0.4"]},
	"key": {"kind": "sas", "id": "k_1", "principal": "payroll-clerks", "claims": ["Send"], "proved_by": "relay"},
	"listener": {"kind": "sas", "id": "k_2", "principal": "defaultListener", "claims": ["Listen"], "proved_by": "relay"},
	"source": {"gateway": "gateway-1", "gateway_proved": false, "address": "203.0.113.9"},
	"agent": {"name": "agent-1", "instance": "i_1", "labels": {}, "version": "1.0.0"},
	"relay": {"node": "relay-1.example.com"},
	"link": {"id": "l_1", "carrier": "tcp"},
	"stream": {"id": "s_1", "kind": "tcp", "attempt": 1},
	"usage": {"principal": {"streams": 0}, "connection": {"streams": 0}, "agent": {"streams": 0}},
	"managed": {"require_proof": false},
	"time": {
		"unix_ms": 1798711200000,
		"rfc3339": "2026-12-31T10:00:00Z",
		"local": {"date": "2026-12-31", "weekday": "thu", "hour": 11, "minute": 0, "zone": "Europe/Berlin"},
	},
}

test_payroll_is_published if {
	answer := decision.publish with input as object.union(payroll_stream, {"action": "publish"})
	answer.allow
}

test_payroll_is_looked_at_often if {
	decision.stream.obligations.recheck_seconds == 30 with input as payroll_stream
}

test_payroll_opens_at_seven_and_closes_at_seven if {
	decision.stream.allow with input as object.union(payroll_stream, {"time": {"local": {"hour": 7}}})
	not decision.stream.allow with input as object.union(payroll_stream, {"time": {"local": {"hour": 6}}})
	decision.stream.allow with input as object.union(payroll_stream, {"time": {"local": {"hour": 18}}})
	not decision.stream.allow with input as object.union(payroll_stream, {"time": {"local": {"hour": 19}}})
}

test_payroll_is_closed_at_weekends if {
	every weekday in {"sat", "sun"} {
		asked := object.union(payroll_stream, {"time": {"local": {"weekday": weekday}}})
		not decision.stream.allow with input as asked
	}
}

test_payroll_break_glass_works_at_night_and_is_short if {
	asked := object.union(payroll_stream, {"key": {"principal": "break-glass"}, "time": {"local": {"hour": 3}}})
	answer := decision.stream with input as asked
	answer.rule == "payroll-break-glass"
	answer.obligations.max_seconds == 900
	answer.obligations.max_streams_per_principal == 1
}
