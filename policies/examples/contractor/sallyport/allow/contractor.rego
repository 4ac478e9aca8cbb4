package sallyport.allow

import data.sallyport.request

# METADATA
# title: The plant's historian
# custom: {id: historian-publish, owner: plant-it@example.com, ticket: SEC-80, expires: never}
publish["plant-historian"] contains rego.metadata.rule() if {
	request.target_is("historian.plant.example", 1521)
	net.cidr_contains("10.40.0.0/24", input.target.address)
}

# METADATA
# title: No remote shells or desktops through the tunnel
# custom: {id: no-remote-control, owner: security@example.com}
deny["*"] contains rego.metadata.rule() if input.target.port in {22, 3389}

# METADATA
# title: Nobody holds a stream to the plant for longer than a shift
# custom: {id: plant-shift, owner: plant-it@example.com, limits: {max_seconds: 28800}}
limits["plant-historian"] contains rego.metadata.rule()
