package sallyport.allow_test

import data.sallyport.decision

billing_stream := {
	"v": 1,
	"action": "stream",
	"namespace": "relay.example.com",
	"connection": {"name": "billing-api", "id": "c_1", "labels": {}},
	"target": {"host": "billing.corp.example", "port": 443, "address": "10.20.0.8", "addresses": ["10.20.0.8"]},
	"key": {"kind": "sas", "id": "k_1", "principal": "billing-web", "claims": ["Send"], "proved_by": "relay"},
	"listener": {"kind": "sas", "id": "k_2", "principal": "defaultListener", "claims": ["Listen"], "proved_by": "relay"},
	"source": {"gateway": "gateway-1", "gateway_proved": false, "address": "198.51.100.20"},
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

test_billing_is_published if {
	answer := decision.publish with input as object.union(billing_stream, {"action": "publish"})
	answer.allow
}

test_billing_partner_comes_from_its_own_network if {
	asked := object.union(billing_stream, {"key": {"principal": "billing-partner"}, "source": {"address": "203.0.113.7"}})
	answer := decision.stream with input as asked
	answer.allow
}

test_billing_partner_does_not_come_from_anothers_network if {
	asked := object.union(billing_stream, {"key": {"principal": "billing-partner"}})
	answer := decision.stream with input as asked
	not answer.allow
}

test_billing_takes_ipv6_sources if {
	asked := object.union(billing_stream, {"source": {"address": "2001:db8:51::9"}})
	answer := decision.stream with input as asked
	answer.allow
}

test_billing_refuses_the_test_network if {
	asked := object.union(billing_stream, {"source": {"address": "198.51.100.200"}})
	answer := decision.stream with input as asked
	not answer.allow
	{"code": "policy:billing-no-test", "args": {}} in answer.reasons
}

test_billing_refuses_an_unknown_source if {
	answer := decision.stream with input as json.remove(billing_stream, ["/source/address"])
	not answer.allow
}
