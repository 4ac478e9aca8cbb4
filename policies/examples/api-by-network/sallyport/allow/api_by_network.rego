package sallyport.allow

import data.sallyport.request

# METADATA
# title: The billing API, inside its own network
# custom: {id: billing-publish, owner: platform@example.com, ticket: SEC-50, expires: never}
publish["billing-api"] contains rego.metadata.rule() if {
	request.target_is("billing.corp.example", 443)
	net.cidr_contains("10.20.0.0/24", input.target.address)
}

billing_networks := {
	"billing-web": {"198.51.100.0/24", "2001:db8:51::/48"},
	"billing-partner": {"203.0.113.0/25"},
}

# METADATA
# title: Each partner from its own networks
# custom:
#   id: billing-partners
#   owner: billing@example.com
#   ticket: SEC-51
#   expires: 2028-01-01
#   limits: {idle_seconds: 120}
stream["billing-api"] contains rego.metadata.rule() if {
	request.from_any(billing_networks[input.key.principal])
}

# METADATA
# title: The test network never reaches billing
# custom: {id: billing-no-test, owner: security@example.com}
deny["billing-api"] contains rego.metadata.rule() if {
	input.action == "stream"
	net.cidr_contains("198.51.100.128/25", input.source.address)
}
