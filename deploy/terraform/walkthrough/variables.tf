variable "vpc_id" {
  type = string
}

variable "subnet_id" {
  type        = string
  description = "A subnet with a route to S3 and Systems Manager"
}

variable "source_interface_id" {
  type = string
}

variable "source_cidr" {
  type        = string
  default     = "10.0.0.0/16"
  description = "Where the mirrored interface has its address"
}

variable "filter" {
  type    = string
  default = "tcp"
  validation {
    condition     = contains(["tcp", "ports"], var.filter)
    error_message = "tcp or ports."
  }
}

variable "instance_type" {
  type    = string
  default = "t3.small"
}

variable "package_bucket" {
  type        = string
  description = "The S3 bucket to which the package was uploaded"
}

variable "package_key" {
  type    = string
  default = "mirror.rpm"
}

variable "package_sha256" {
  type = string
  validation {
    condition     = can(regex("^[0-9a-f]{64}$", var.package_sha256))
    error_message = "64 hexadecimal digits, as sha256sum prints them."
  }
}
