# METADATA
# title: Joins guard, allow-lists, grants, denies and limits
package sallyport.verdict

import data.sallyport.allow
import data.sallyport.entitlement
import data.sallyport.guard
import data.sallyport.request

# METADATA
# title: A stream needs a live publish rule for its target as well as a live stream rule
needed := {"publish": {"publish"}, "stream": {"publish", "stream"}}[input.action]

# METADATA
# title: What the agent can enforce; a rule with any other limit is invalid
enforceable := {"max_seconds", "max_bytes", "idle_seconds", "recheck_seconds", "max_streams_per_principal"}

matched.publish contains rule if some rule in allow.publish[input.connection.name]

matched.stream contains rule if some rule in allow.stream[input.connection.name]

matched.stream contains rule if some rule in entitlement.stream

# METADATA
# title: Matched, named, owned, with limits that can be kept, not past its expiry
live[action] contains rule if {
	some action in needed
	some rule in matched[action]
	named(rule.custom.id)
	named(rule.custom.owner)
	bounded(rule)
	request.before(rule.custom.expires)
}

# METADATA
# title: Text that says something
named(text) if {
	is_string(text)
	text != ""
}

# METADATA
# title: Every limit has a known name and is a positive whole number
# scope: document
bounded(rule) if not "limits" in object.keys(rule.custom)

bounded(rule) if {
	is_object(rule.custom.limits)
	every name, value in rule.custom.limits {
		name in enforceable
		whole(value)
	}
}

whole(value) if {
	is_number(value)
	value > 0
	value == round(value)
}

# METADATA
# title: Limits that hold for this connection
caps contains cap if {
	some scope in {"*", input.connection.name}
	some cap in allow.limits[scope]
}

denied contains reason if some reason in guard.deny

denied contains {"code": concat(":", ["policy", id]), "args": object.get(rule, "args", {})} if {
	some scope in {"*", input.connection.name}
	some rule in allow.deny[scope]
	id := object.get(rule, ["custom", "id"], "unnamed")
}

# METADATA
# title: A limit that cannot be kept denies, it does not vanish
# scope: rule
denied contains {"code": "limit_invalid", "args": object.union({"rule": id}, fault(unkept(cap) | idle(cap)))} if {
	some cap in caps
	not capping(cap)
	id := object.get(cap, ["custom", "id"], "unnamed")
}

capping(cap) if {
	count(cap.custom.limits) > 0
	bounded(cap)
}

default allowed := false

allowed if {
	input.v == 1
	every action in needed { count(live[action]) > 0 }
	count(denied) == 0

	# Said by denied, too; what a reason has to tell never decides whether there is one.
	every cap in caps { capping(cap) }
}

reasons contains {"code": "allowed_by", "args": {"rule": id}} if {
	some ids in rules
	some id in ids
}

reasons contains reason if some reason in denied

reasons contains {"code": "no_rule", "args": {"action": action}} if {
	some action in needed
	count(matched[action]) == 0
}

reasons contains {"code": "rule_expired", "args": {"rule": id}} if {
	some rule in lapsed
	sound(rule)
	id := object.get(rule, ["custom", "id"], "unnamed")
}

reasons contains {"code": "rule_invalid", "args": object.union({"rule": id}, fault(faults(rule)))} if {
	some rule in lapsed
	not sound(rule)
	id := object.get(rule, ["custom", "id"], "unnamed")
}

# METADATA
# title: Matched, and not live
lapsed contains rule if {
	some action in needed
	some rule in (matched[action] - object.get(live, action, set()))
}

# METADATA
# title: The first of the faults, or nothing when none can be told; an answer never depends on it
# scope: document
default fault(_) := {}

fault(found) := sort(found)[0] if count(found) > 0

# METADATA
# title: Members that keep a rule from being sound, and what each should be
# scope: document
default faults(_) := set()

faults(rule) := ({{"member": name, "expected": "a text"} |
	some name in {"id", "owner"}
	not named(object.get(rule.custom, name, null))
} | {{"member": "expires", "expected": "a date, a UTC second or never"} |
	not ends(object.get(rule.custom, "expires", null))
}) | unkept(rule)

ends("never")

ends(expiry) if request.instant(expiry) != null

# METADATA
# title: Limits that cannot be kept
# scope: document
default unkept(_) := set()

unkept(rule) := ({{"member": "limits", "expected": "names and positive whole numbers"} |
	not is_object(object.get(rule.custom, "limits", {}))
} | {{"member": concat(".", ["limits", name]), "expected": concat(" ", ["one of", concat(", ", sort(enforceable))])} |
	some name, _ in rule.custom.limits
	not name in enforceable
}) | {{"member": concat(".", ["limits", name]), "expected": "a positive whole number"} |
	some name, value in rule.custom.limits
	name in enforceable
	not whole(value)
}

# METADATA
# title: A limits rule without a limit bounds nothing
idle(cap) := {{"member": "limits", "expected": concat(" ", ["one of", concat(", ", sort(enforceable))])} |
	not bounding(cap)
}

bounding(cap) if count(cap.custom.limits) > 0

# METADATA
# title: All that a rule needs but time
# scope: document
default sound(_) := false

sound(rule) if {
	named(rule.custom.id)
	named(rule.custom.owner)
	bounded(rule)
	request.instant(rule.custom.expires) != null
}

limits[name] contains value if {
	some action in needed
	some rule in live[action]
	some name, value in rule.custom.limits
}

limits[name] contains value if {
	some cap in caps
	capping(cap)
	some name, value in cap.custom.limits
}

lowest[name] := min(values) if some name, values in limits

obligations := object.union(lowest, {"recheck_seconds": max({5, object.get(lowest, "recheck_seconds", 60)})})

default recheck_at := null

recheck_at := min({ends |
	some of_action in live
	some rule in of_action
	ends := request.instant(rule.custom.expires)
	ends != null
})

rules[action] := sort(ids) if {
	some action in {"publish", "stream"}
	ids := {rule.custom.id | allowed; some rule in object.get(live, action, set())}
}

default first := null

first := rules[input.action][0]

result := {
	"allow": allowed,
	"rule": first,
	"rules": rules,
	"reasons": sort(reasons),
	"obligations": obligations,
	"recheck_at": recheck_at,
}

explanation := {"result": result, "matched": matched, "live": live, "grants": entitlement.weighed}
