package sallyport.allow_test

import data.sallyport.decision

orders_stream := {
	"v": 1,
	"action": "stream",
	"namespace": "relay.example.com",
	"connection": {"name": "orders-db", "id": "c_1", "labels": {}},
	"target": {"host": "sql01.corp.example", "port": 1433, "address": "10.1.2.3", "addresses": ["10.1.2.3"]},
	"key": {"kind": "sas", "id": "k_1", "principal": "orders-app", "claims": ["Send"], "proved_by": "relay"},
	"listener": {"kind": "sas", "id": "k_2", "principal": "defaultListener", "claims": ["Listen"], "proved_by": "relay"},
	"source": {"gateway": "gateway-1", "gateway_proved": false, "address": "203.0.113.9"},
	"agent": {"name": "agent-1", "instance": "i_1", "labels": {"site": "warehouse"}, "version": "1.0.0"},
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

test_orders_is_published if {
	answer := decision.publish with input as object.union(orders_stream, {"action": "publish"})
	answer.allow
}

test_orders_app_is_bounded if {
	answer := decision.stream with input as orders_stream
	answer.rule == "orders-app"
	answer.obligations.max_streams_per_principal == 50
	answer.obligations.idle_seconds == 900
}

test_orders_has_no_other_application if {
	answer := decision.stream with input as object.union(orders_stream, {"key": {"principal": "reporting"}})
	not answer.allow
}

test_orders_is_not_a_moved_name if {
	asked := object.union(orders_stream, {"target": {"address": "10.2.2.3", "addresses": ["10.2.2.3"]}})
	answer := decision.stream with input as asked
	not answer.allow
}

test_orders_is_not_published_elsewhere if {
	asked := object.union(orders_stream, {"agent": {"labels": {"site": "office"}}})
	answer := decision.stream with input as asked
	not answer.allow
}
