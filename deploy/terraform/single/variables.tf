variable "vpc_id" {
  type = string
}

variable "my_ip" {
  type        = string
  description = "From where the web site may be opened, such as 192.0.2.1/32"
}

variable "public_subnet_ids" {
  type = list(string)
}

variable "private_subnet_ids" {
  type        = list(string)
  description = "With a route to S3, Systems Manager and packages"
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
