local H = require "spec.helper"

H.fixtures("activation")
