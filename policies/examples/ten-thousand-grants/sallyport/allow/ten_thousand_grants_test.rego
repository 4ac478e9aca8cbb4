package sallyport.allow_test

import data.sallyport.decision

stores_stream := {
	"v": 1,
	"action": "stream",
	"namespace": "relay.example.com",
	"connection": {"name": "stock-db", "id": "c_1", "labels": {}},
	"target": {"host": "stock.corp.example", "port": 5432, "address": "10.50.0.6", "addresses": ["10.50.0.6"]},
	"key": {"kind": "sas", "id": "k_1", "principal": "store-00001", "claims": ["Send"], "proved_by": "relay"},
	"listener": {"kind": "sas", "id": "k_2", "principal": "defaultListener", "claims": ["Listen"], "proved_by": "relay"},
	"source": {"gateway": "gateway-1", "gateway_proved": false, "address": "10.128.1.20"},
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

test_stores_is_published if {
	answer := decision.publish with input as object.union(stores_stream, {"action": "publish"})
	answer.allow
}

test_stores_are_bounded if {
	answer := decision.stream with input as stores_stream
	answer.rule == "store-00001-stock"
	answer.obligations.max_streams_per_principal == 20
}

test_stores_do_not_come_from_anothers_network if {
	asked := object.union(stores_stream, {"source": {"address": "10.128.2.20"}})
	answer := decision.stream with input as asked
	not answer.allow
}

test_stores_that_are_not_listed_are_refused if {
	asked := object.union(stores_stream, {"key": {"principal": "store-99999"}})
	answer := decision.stream with input as asked
	not answer.allow
}
