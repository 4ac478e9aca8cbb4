package sallyport.allow_test

import data.sallyport.decision

shop_stream := {
	"v": 1,
	"action": "stream",
	"namespace": "relay.example.com",
	"connection": {"name": "shop-db-test", "id": "c_1", "labels": {"env": "test"}},
	"target": {"host": "db.test.corp.example", "port": 5432, "address": "10.60.0.5", "addresses": ["10.60.0.5"]},
	"key": {"kind": "sas", "id": "k_1", "principal": "shop-test-app", "claims": ["Send"], "proved_by": "relay"},
	"listener": {"kind": "sas", "id": "k_2", "principal": "defaultListener", "claims": ["Listen"], "proved_by": "relay"},
	"source": {"gateway": "gateway-1", "gateway_proved": false, "address": "203.0.113.9"},
	"agent": {"name": "agent-1", "instance": "i_1", "labels": {"env": "test"}, "version": "1.0.0"},
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

test_shop_is_published if {
	answer := decision.publish with input as object.union(shop_stream, {"action": "publish"})
	answer.allow
}

test_shop_prod_reaches_prod if {
	answer := decision.stream with input as object.union(shop_stream, {
		"connection": {"name": "shop-db-prod", "labels": {"env": "prod"}},
		"target": {"host": "db.prod.corp.example", "address": "10.70.0.5", "addresses": ["10.70.0.5"]},
		"key": {"principal": "shop-prod-app"},
		"agent": {"labels": {"env": "prod"}},
	})
	answer.allow
}

test_shop_label_of_the_connection_is_not_enough if {
	asked := object.union(shop_stream, {"connection": {"labels": {"env": "prod"}}})
	answer := decision.stream with input as asked
	not answer.allow
}

test_shop_prod_key_does_not_reach_test if {
	asked := object.union(shop_stream, {"key": {"principal": "shop-prod-app"}})
	answer := decision.stream with input as asked
	not answer.allow
	{"code": "policy:shop-no-crossing", "args": {}} in answer.reasons
}

test_shop_test_agent_does_not_reach_prod if {
	prod := {"host": "db.prod.corp.example", "address": "10.70.0.5", "addresses": ["10.70.0.5"]}
	answer := decision.stream with input as object.union(shop_stream, {"target": prod})
	not answer.allow
}
