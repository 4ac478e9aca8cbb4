package sallyport.allow_test

import data.sallyport.decision

contract_stream := {
	"v": 1,
	"action": "stream",
	"namespace": "relay.example.com",
	"connection": {"name": "plant-historian", "id": "c_1", "labels": {}},
	"target": {"host": "historian.plant.example", "port": 1521, "address": "10.40.0.7", "addresses": ["10.40.0.7"]},
	"key": {"kind": "sas", "id": "k_1", "principal": "contractor-acme", "claims": ["Send"], "proved_by": "relay"},
	"listener": {"kind": "sas", "id": "k_2", "principal": "defaultListener", "claims": ["Listen"], "proved_by": "relay"},
	"source": {"gateway": "gateway-1", "gateway_proved": false, "address": "192.0.2.44"},
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

test_contract_is_published if {
	answer := decision.publish with input as object.union(contract_stream, {"action": "publish"})
	answer.allow
}

test_contract_is_bounded if {
	answer := decision.stream with input as contract_stream
	answer.rule == "acme-2027"
	answer.obligations.max_bytes == 1073741824
	answer.obligations.max_seconds == 7200
	answer.obligations.max_streams_per_principal == 2
	answer.recheck_at == "2027-07-01T00:00:00Z"
}

test_contract_ends if {
	asked := object.union(contract_stream, {"time": {"rfc3339": "2027-06-30T23:59:59Z"}})
	decision.stream.allow with input as asked
	ended := {"time": {"rfc3339": "2027-07-01T00:00:00Z"}}
	not decision.stream.allow with input as object.union(contract_stream, ended)
}

test_contract_is_for_one_network_at_working_hours if {
	asked := object.union(contract_stream, {"source": {"address": "192.0.2.64"}})
	not decision.stream.allow with input as asked
	not decision.stream.allow with input as object.union(contract_stream, {"time": {"local": {"hour": 20}}})
}

test_contract_knows_no_other_contractor if {
	asked := object.union(contract_stream, {"key": {"principal": "contractor-other"}})
	not decision.stream.allow with input as asked
}

test_contract_has_no_remote_desktop if {
	answer := decision.stream with input as object.union(contract_stream, {"target": {"port": 3389}})
	{"code": "policy:no-remote-control", "args": {}} in answer.reasons
}
