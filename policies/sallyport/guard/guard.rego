# METADATA
# title: Mirror of the guard that the agent enforces in its own code
package sallyport.guard

# METADATA
# title: Never a target
forbidden := {
	"0.0.0.0/8",
	"100.100.100.200/32",
	"168.63.129.16/32",
	"169.254.0.0/16",
	"224.0.0.0/3",
	"::/128",
	"fd00:ec2::254/128",
	"fe80::/10",
	"ff00::/8",
}

deny contains {"code": "guard_network", "args": {"network": network}} if {
	some network in forbidden
	net.cidr_contains(network, input.target.address)
}

deny contains {"code": "guard_mapped", "args": {}} if startswith(input.target.address, "::ffff:")

deny contains {"code": "guard_unresolved", "args": {}} if not input.target.address in input.target.addresses

deny contains {"code": "guard_claim", "args": {"claim": "Listen"}} if not "Listen" in input.listener.claims

deny contains {"code": "guard_claim", "args": {"claim": "Send"}} if {
	input.action == "stream"
	not "Send" in input.key.claims
}

# METADATA
# title: Managed settings demand keys that the agent itself verified
# scope: rule
deny contains {"code": "proof_required", "args": {"party": party}} if {
	input.managed.require_proof
	some party in ["listener", "key"]
	input[party].proved_by != "agent"
}
